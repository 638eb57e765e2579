"""Patient records as text: the code behind the book.

A record travels one way, one sub-package a station::

    records -> labels -> texts -> vectors -> scores -> pages
    data       tasks     serialize embed     evaluate  book

A sub-package imports only the stations before it; ``book`` may import all, and nothing imports ``book``.
"""

__version__ = "0.1.0"
