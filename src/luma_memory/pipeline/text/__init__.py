"""Text analysis for lexical search: words, stems, term vectors. The lowest pipeline package."""
