"""What folders take on the disk, as `/system` says it."""

from __future__ import annotations

from pathlib import Path

from app.services.storage import used_bytes


def test_files_of_all_depths_count_and_links_do_not(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "one").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "b" / "two").write_bytes(b"x" * 500)
    (tmp_path / "linked").symlink_to(tmp_path / "one")
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    links = (tmp_path / "linked").lstat().st_size + (tmp_path / "a" / "round").lstat().st_size
    assert used_bytes(tmp_path) == 1500 + links


def test_a_folder_that_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert used_bytes(tmp_path / "gone") == 0
