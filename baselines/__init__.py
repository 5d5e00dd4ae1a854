"""Other inversion methods: each its network, its official checkpoint, and one method class."""
