"""An engine's answer on its way to the client: in shape, with an honest end. All pure."""
