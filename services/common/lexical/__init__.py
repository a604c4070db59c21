"""Full-text retrieval: `analysis` turns a text into terms, and `bm25` weighs them."""
