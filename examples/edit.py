"""Edit one photo from Python: python examples/edit.py"""

from ier1_plugin.pipeline.system import System

agents = System(
    decomposer="openai:http://127.0.0.1:8000/v1#decomposer", sequencer="rule", editor="flux-kontext", seed=7
).build()
result = agents.edit("portrait.jpg", "Change the color of her coat and possibly hair to scarlet or copper red")
print(*result.trace.plan.sub_requests, sep="\n")
result.image.save("edited.png")
