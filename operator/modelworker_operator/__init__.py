"""The operator: turns ModelWorkers into Deployments and Services, and keeps their status true."""
