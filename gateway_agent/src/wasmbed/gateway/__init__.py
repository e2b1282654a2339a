"""The gateway's agent: brings what runs in the runtime to what the Placements of its namespace say."""
