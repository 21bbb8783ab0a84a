"""Brokers and a schema registry on this machine, without Docker, each as a context manager.

- `flyback.local.tansu.EmbeddedBroker`: in memory, from a wheel; for the demo and smoke tests.
- `flyback.local.kafka.KafkaBroker`: real Apache Kafka; needs Java 17+ and Maven.
- `flyback.local.registry.SchemaRegistry`: Apicurio Registry; needs Java 21+ and Maven.
- `flyback.local.process.ChildProcess`: what they are all run by.
"""
