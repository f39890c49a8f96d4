@echo off
rem Runs the daemon's command line with the Node it is pinned to, wherever this is called from.
setlocal
set "root=%~dp0.."
set "node=%root%\node_modules\.bin\node.cmd"
if not exist "%node%" node "%~dp0prepare.mjs" || exit /b 1
if exist "%node%" (call "%node%" "%root%\daemon\main.ts" %*) else (node "%root%\daemon\main.ts" %*)
