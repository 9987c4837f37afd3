"""Networks that no library has, written from the papers, under the state-dict keys of the official releases."""
