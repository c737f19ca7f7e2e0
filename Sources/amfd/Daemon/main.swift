// This program is being built.
