"""The memory of this host: which engine gets which GPU, and whose has to leave for it.

A device is one GPU, or the memory of a machine without one. How much everybody needs is planned
elsewhere and handed in. `placement` decides for one assistant where it can start, `eviction` who
leaves at the least cost, `waiting` for a whole queue in its order: all three are pure. `allocator`
acts on them and keeps the books; `gpus` asks the driver what is there and free.
"""
