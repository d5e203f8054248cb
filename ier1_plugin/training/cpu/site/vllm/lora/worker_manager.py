"""EasyR1 exchanges this class's `_load_adapter`; the stand-in merges adapters itself and never calls it."""


class LRUCacheWorkerLoRAManager: ...
