"""``reports/index.html``: the page that a reviewer is sent, in one file that needs no network."""
