"""Parts of your own for genreclf; conf/ holds one option for each."""
