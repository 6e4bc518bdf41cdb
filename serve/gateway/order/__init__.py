"""From a client's body to the order an engine gets: the assistant applied. All pure."""
