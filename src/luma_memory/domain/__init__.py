"""Ground floor: the facts that travel through the house and the ports between its rooms.

Standard library only; everything here may be imported by every other room.
"""
