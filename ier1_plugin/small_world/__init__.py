"""A small editing world: real photographs, requests in words, edits that Pillow makes exactly, and a tiny model.

    world        requests with photo, edits and gold    pictures  the photographs, their licences
    wordings     how people ask                         tiny_model  a Qwen2.5-VL of 1.3 M parameters
    warm_up, evaluate, page, progress                   the quickstart's steps

The exact edits themselves are in `ier1_plugin/editors/pillow/operations.py`.

It shows that the loop works, without a download or a GPU. It is a test bench; its figures say nothing of real models.
"""
