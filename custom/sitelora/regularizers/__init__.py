"""What is added to the task loss at a site."""
