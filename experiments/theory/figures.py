from pathlib import Path
def draw(source: Path, place: Path): return []
