def examine_own_key_set(door): return ()
