"""What tests share: clocks, loggers, traffic, an oracle, installations. It holds no tests."""
