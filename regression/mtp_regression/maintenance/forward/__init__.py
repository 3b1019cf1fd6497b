"""Shows how far right and wrong models are apart in the stage `forward`."""
