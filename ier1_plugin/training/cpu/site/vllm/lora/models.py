"""Named by EasyR1 in a type annotation only."""


class LoRAModel: ...
