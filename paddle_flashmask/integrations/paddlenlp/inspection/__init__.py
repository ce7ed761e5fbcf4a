"""What a configuration would train on, shown before anything is trained."""
