"""Links between a gateway and its devices: TLS 1.3 for Linux devices, Noise over serial lines for microcontrollers."""
