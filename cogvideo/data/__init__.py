"""Captioned videos to records of tokens, and the order and the form in which training reads them.

`sources` -> `cutting` -> `tokenizing` write a folder of records; `records` -> `dataset` + `batch_order` read it.
"""
