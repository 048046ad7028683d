"""A made-up web shop: which events its shoppers cause, and the process that sends them to Kafka."""
