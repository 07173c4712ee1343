"""What training asks of what it is given and of what comes out: streams, networks, numbers. A refusal is one line."""
