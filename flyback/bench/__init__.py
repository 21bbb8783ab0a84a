"""`flyback bench`: what a Kafka and a machine carry, measured on topics of its own, and which part is the limit."""
