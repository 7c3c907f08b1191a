"""The engine on more than one device: replicas behind the protocol that the engine itself has."""
