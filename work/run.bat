@echo off
rem Sets up what is missing and starts the workbench on http://localhost:8501 or the next free port: run.bat [PORT]
setlocal
cd /d "%~dp0"
if not "%1"=="" set WORKBENCH_PORT=%1
set VENV=%~dp0..\.venv
if not exist "%VENV%\Scripts\python.exe" (
    echo Setting up in %VENV%: about 150 MB of packages.
    py -3 -m venv "%VENV%" || python -m venv "%VENV%" || exit /b 1
)
if not exist "%VENV%\.slm-setup-work" (
    "%VENV%\Scripts\python.exe" -m pip install --quiet -r requirements.txt || exit /b 1
    echo done> "%VENV%\.slm-setup-work"
)
"%VENV%\Scripts\python.exe" app.py
