"""The toybox's world: a dozen classes of things in a dozen places, rendered, so the truth about every picture is known.

numpy and pillow only. `render(subject, scene)` is the whole of it; a `Subject` is one particular object, a `Scene` its
setting.
"""

from .captions import caption, scene_of_prompt
from .render import render, render_mask, render_photos
from .scene import ACCESSORIES, CONTEXTS, LIGHTS, STYLES, VIEWS, Scene
from .subject import ANIMALS, CLASSES, Subject, draw_subject, draw_training_subject, held_out_subjects
from .surfaces import COLORS, PATTERNS, UNSEEN_PATTERNS

__all__ = [
    "ACCESSORIES",
    "ANIMALS",
    "CLASSES",
    "COLORS",
    "CONTEXTS",
    "LIGHTS",
    "PATTERNS",
    "STYLES",
    "UNSEEN_PATTERNS",
    "VIEWS",
    "Scene",
    "Subject",
    "caption",
    "draw_subject",
    "draw_training_subject",
    "held_out_subjects",
    "render",
    "render_mask",
    "render_photos",
    "scene_of_prompt",
]
