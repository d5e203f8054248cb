"""The vocabulary of edit actions: fifteen verbs that cover what people ask of an image editor.

Names and scope follow the taxonomy of PSR (Taesiri et al., arXiv 2505.16181, Table 2 and Figure A9), whose 82,976
real requests hold 1.35 actions each; the wording is ours. `prompts/decompose.jinja` spells the same table out for the
policy, since EasyR1 renders a prompt with nothing but the request; a test holds the two equal.
"""

from __future__ import annotations

ACTIONS: dict[str, str] = {
    "Delete": "remove an unwanted object, person, text or blemish",
    "Adjust": "correct the look of the whole image, such as contrast, exposure, saturation or white balance",
    "Add": "put in a new object, text, border or effect",
    "Replace": "exchange an object, text or background for another and keep the rest",
    "Recoloring": "change the colour of one element, not of the whole image",
    "Superresolution": "raise the resolution or bring out finer detail",
    "Transform": "change geometry: flip, rotate, scale, skew or warp",
    "Apply": "put on a filter, style or effect, such as blur, sepia or cartoon",
    "Move": "put an existing element somewhere else",
    "Crop": "trim the edges",
    "Merge": "combine parts of several images",
    "Relighting": "change or improve the light: its strength, warmth or direction",
    "Specialized operation": "a special task, such as vectorising, inverting, a collage or another file format",
    "Zoom": "come closer to an area, or widen the view with new content",
    "Clone": "make further copies of an existing element",
}
