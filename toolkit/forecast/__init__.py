"""What a run will take, before it is started: memory, disk, time."""
