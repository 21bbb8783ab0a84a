"""What a user types. `entry` is the console script, `app` puts the commands together."""
