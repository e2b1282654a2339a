"""What can go wrong with an image."""


class ImageError(Exception):
    """An image that cannot be had; the message names the reference, the cause and what to do.

    `permanent` is true when the same digest cannot succeed later (a wrong media type, a wrong digest).
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent
