"""What people read and type; other rooms import its modules."""

__all__: list[str] = []
