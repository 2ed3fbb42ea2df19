"""The edge of the service: protobuf to domain and back, and nothing else."""
