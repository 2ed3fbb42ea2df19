"""The codecontext service: the gRPC server, its command line and its workers."""
