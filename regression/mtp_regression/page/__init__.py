"""Reports as one page to look at: an HTML file that needs nothing beside it."""
