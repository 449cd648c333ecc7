@echo off
rem Sets up what is missing and serves on http://localhost:8000 with reload: run.bat [PORT]
setlocal
cd /d "%~dp0"
set PORT=%1
if "%PORT%"=="" set PORT=8000
set VENV=%~dp0..\.venv
if not exist "%VENV%\Scripts\python.exe" (
    echo Setting up in %VENV%: PyTorch ^(about 120 MB^) and other packages ^(about 150 MB^).
    py -3 -m venv "%VENV%" || python -m venv "%VENV%" || exit /b 1
)
if not exist "%VENV%\.slm-setup" (
    if not "%TORCH_INDEX_URL%"=="" (
        "%VENV%\Scripts\python.exe" -m pip install --quiet --index-url "%TORCH_INDEX_URL%" torch==2.13.0 || exit /b 1
    )
    "%VENV%\Scripts\python.exe" -m pip install --quiet -r requirements.txt || exit /b 1
    echo done> "%VENV%\.slm-setup"
)
"%VENV%\Scripts\python.exe" -m uvicorn app.main:app --reload --host 0.0.0.0 --port %PORT%
