"""The warm worker process behind heliodor-topaz."""
