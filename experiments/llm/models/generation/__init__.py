"""How candidate answers are made: the loop over tokens (`sampling`), one draw, the cache they share."""
