"""A small editing world: real photographs, requests in words, edits that Pillow makes exactly, and a tiny model.

    operations   what can be done to a photo         world       requests with photo, edits and gold
    pictures     the photographs, their licences     tiny_model  a Qwen2.5-VL of 1.3 M parameters
    wordings     how people ask                      warm_up, evaluate, report, progress: the quickstart's steps

It shows without a download or a GPU that the loop works. It is a test bench; its figures say nothing about real models.
"""
