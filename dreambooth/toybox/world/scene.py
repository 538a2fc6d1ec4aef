"""A scene: where the subject is, from where it is seen, in which light and style, and what it wears."""

from dataclasses import dataclass

CONTEXTS: dict[str, str] = {
    "beach": "on the beach",
    "snow": "in the snow",
    "jungle": "in the jungle",
    "cobblestone": "on a cobblestone street",
    "pink fabric": "on top of pink fabric",
    "wooden floor": "on top of a wooden floor",
    "city": "with a city in the background",
    "mountain": "with a mountain in the background",
    "blue house": "with a blue house in the background",
    "purple rug": "on top of a purple rug in a forest",
    "wheat field": "with a wheat field in the background",
    "autumn": "with a tree and autumn leaves in the background",
    "water": "floating on top of water",
    "sunflowers": "on top of green grass with sunflowers around it",
}
"""Contexts by short name, with DreamBench's wording."""
STUDIO = "studio"
"""The plain backdrop of pictures whose caption names no place."""
GROUNDS = ("beach", "snow", "cobblestone", "pink fabric", "wooden floor", "purple rug", "water", "sunflowers")
"""Contexts that a camera looking down still shows."""
VIEWS = {"front": "", "side": "from the side", "back": "from the back", "above": "from above"}
LIGHTS = {"day": "", "sunset": "at sunset", "night": "at night"}
STYLES = {"photo": "a photo of", "sketch": "a pencil sketch of", "pixels": "pixel art of", "painting": "an oil painting of"}
ACCESSORIES = {"red hat": "wearing a red hat", "rainbow scarf": "wearing a rainbow scarf", "pink glasses": "wearing pink glasses"}


@dataclass(frozen=True)
class Scene:
    """One picture's setting. `seed` draws what no word names: exact angle, distance, where the light comes from, clouds."""

    context: str = STUDIO
    view: str = "front"
    light: str = "day"
    style: str = "photo"
    accessory: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        choices = (
            ("context", self.context, (*CONTEXTS, STUDIO)),
            ("view", self.view, VIEWS),
            ("light", self.light, LIGHTS),
            ("style", self.style, STYLES),
            ("accessory", self.accessory, (*ACCESSORIES, None)),
        )
        for what, value, allowed in choices:
            if value not in allowed:
                raise ValueError(f"{what}={value!r}: the toybox knows {', '.join(map(str, allowed))}.")
