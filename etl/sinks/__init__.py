"""Where processed lines end: files, standard output, databases, lakes, servers.

A sink stages a batch's rows before the commit and publishes them after it, so
that nobody sees a row of a batch that was not committed. A run loads those that
its pipeline has, and no others.
"""
