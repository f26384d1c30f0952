# SPDX-License-Identifier: GPL-3.0-or-later
# CANN's environment, as far as a training script can notice it. Like the real one it asks the host's installation
# record for the driver's place, and like the real one it ends a shell under `set -e` when the record has no such line.
driver_home=$(grep -i '^Driver_Install_Path_Param=' /etc/ascend_install.info 2>/dev/null | cut -d= -f2)
driver_home=${driver_home:-/usr/local/Ascend}
export ASCEND_TOOLKIT_HOME=/usr/local/Ascend/ascend-toolkit/latest
export ASCEND_HOME_PATH=$ASCEND_TOOLKIT_HOME
export ASCEND_OPP_PATH=$ASCEND_TOOLKIT_HOME/opp
export ASCEND_AICPU_PATH=$ASCEND_TOOLKIT_HOME
export TOOLCHAIN_HOME=$ASCEND_TOOLKIT_HOME/toolkit
export LD_LIBRARY_PATH=$ASCEND_TOOLKIT_HOME/lib64:$driver_home/driver/lib64:$driver_home/driver/lib64/common:$driver_home/driver/lib64/driver${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
# The image's Python environment; the real image has Python on PATH by itself.
export PATH=/opt/mindspeed/venv/bin:$ASCEND_TOOLKIT_HOME/bin:$PATH
