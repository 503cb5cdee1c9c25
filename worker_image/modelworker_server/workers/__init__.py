"""The workers: what a route can ask for, and the engines that answer."""
