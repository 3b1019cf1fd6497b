"""What is known of Megatron-Bridge's own classes, and how their methods are wrapped."""
