"""A user's export in the forms of other programs, one file per form.

Each form takes the lines of our own export one at a time and writes what they become, so that
a user of any size needs the memory of one block. `importers` reads every form back.
"""
