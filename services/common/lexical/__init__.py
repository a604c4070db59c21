"""The lexical half of retrieval: `analysis` turns a text into terms, `bm25` weighs them."""
