"""The words that the rules for Chinese follow-up questions know. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from zhiwen.common.lexical.analysis import tagged

LIGHT: Final = frozenset(
    """申请 办理 办 批准 审批 批 审核 提交 提前 找 联系 收费 付费 付 付款 交 提供 准备 带 查 查询 下载 填 填写 登记
    预约 取消 续 退 换 报 领 领取 使用 用 操作 处理 解决 做 弄 搞 修 维修 修理 安装 买 购买 订 订购 下单 寄 送
    发 发货 送货 到货 生效 开始 结束 截止 到期 过期 开门 关门 营业 开放 支持 包括 包含 包 含 适用 限制 算 扣 补
    超过 不够 够 等 等到 拿 去 来 走 看 说 知道 告诉 支付 免费 钱 费用 价格 价 价钱 单价 时间 期限 期 天数 天
    日期 流程 步骤 手续 材料 资料 文件 表 表格 条件 要求 规定 政策 标准 上限 下限 范围 例外 方式 方法 办法 地址
    地点 电话 号码 邮箱 网址 联系人 联系电话 负责人 负责 部门 原因 区别 好处 作用 用途 功能 尺寸 大小 重量 长度
    宽度 高度 颜色 规格 型号 参数 精度 功率 容量 寿命 保修 保修期 质保 质保期 保固 保固期 交货 交货期 交期 货期
    起订量 起订 库存 现货 有效期 有效 折扣 优惠 打折 名额 次数 数量 金额 额度 比例 结果 先 贵 便宜 久 长 远 重
    大 高 快 慢 补办 通知 安排 要钱 花钱 收钱 上交""".split()
)
"""Words that say what is asked about a thing, and not which thing."""
ACTIONS: Final = frozenset(
    """申请 办理 办 批准 审批 审核 提交 预约 取消 续 退 换 领 领取 维修 修理 修 安装 买 购买 订 订购 下载 查询 登记
    填 填写 开门 关门 营业 开放 补办 使用 处理 操作 交 付款 支付 生效 过期 到期 发货 送货 寄 安排 通知""".split()
)
"""Light words that still tell what an earlier question was about."""
ATTRIBUTES: Final = frozenset(
    """费用 价格 价钱 单价 期限 天数 日期 流程 步骤 手续 材料 资料 条件 要求 标准 上限 下限 范围 方式 方法 地址
    地点 电话 号码 邮箱 网址 联系人 负责人 原因 区别 好处 作用 用途 功能 尺寸 大小 重量 长度 宽度 高度 颜色 规格
    型号 参数 精度 功率 容量 寿命 保修 保修期 质保 质保期 保固期 交货期 交期 货期 起订量 库存 有效期 折扣 优惠
    数量 金额 额度 比例 时间""".split()
)
GENERIC: Final = frozenset(
    """产品 设备 机器 东西 问题 情况 事 事情 假 假期 制度 服务 项目 系统 措施 补贴 证 卡 书 人""".split()
)
"""Nouns after `这个` that do not say which thing is meant."""
GLUE: Final = frozenset(
    """能 能够 可以 可 会 要 需要 需 应该 应 得 必须 想 该 是 有 没有 没 不 还 还有 也 都 就 又 再 吧 让 给 别 一下
    一共 总共 大概 最多 最少 一般 通常 具体 到底 究竟 分别 算是 属于 请问 想问 问 那么 那 这样 行 好 好的
    可不可以 能不能 会不会 要不要 是不是 有没有 用不用 需不需要 行不行 咱们 咱 本人 自己""".split()
)
ASKING: Final = re.compile(
    r"^(?:多少|多久|多长|多大|多高|多重|多远|多快|多|几.*|什么.*|啥.*|咋.*|哪.*|谁.*|怎.*|如何|为什么|为何|是否|吗|么"
    r"|何时|何处|有没有|能不能|可不可以|是不是|会不会|要不要)$"
)
PRONOUNS: Final = frozenset(
    """它 他 她 它们 他们 她们 这个 那个 这些 那些 这种 那种 这 那 此 其 该 前者 后者 这款 那款 这台
    那台 这样""".split()
)
SHOWING: Final = re.compile(r"[这那此其该]")
AFTER_THIS: Final = frozenset("是 算 要 能 会 可以 需要 有 多少 怎么 什么 包括 行 得 合 属于 多 的".split())
"""Words before which `这` and `那` stand alone: `这算加班吗`."""
THAT: Final = frozenset("那个 那些 那里 那边 那儿 那样 那时 那天 那种 那次 那款 那台 那时候 那会儿 那年".split())
MEASURES: Final = frozenset("个 些 种 款 台 项 类 件 条 批 家 位 本 套 份 张".split())
TIMES: Final = re.compile(r"^(?:月|周|星期|礼拜|年|天|次|学期|季度|时|会儿|里|边|儿|晚|早|阵|段|几|两|么)")
POLITE: Final = re.compile(
    r"^(?:(?:你好|您好|好的?|嗯+|哦|行|谢谢|谢了|明白了?|知道了|了解了?|收到|ok|对了|另外)[，,。！!、 ]+)*"
    r"(?:(?:我|我们)?(?:还|再|就)?(?:请问|想问|想知道|想了解|问)(?:你们|您)?(?:一下|下|问)?[，,：: ]*)?"
)
_PARTICLES = "(?:呢|吗|么|啊|呀|吧|的)*"
MORE: Final = re.compile(
    "(?:"
    "还有(?:别的|其他|其它|什么|哪些)?(?:要求|规定|方法|办法|条件|例外|注意的)?|其他的?|其它的?|别的"
    "|然后|接着|接下来|之后|除此之外|继续|再具体|再详细"
    "|(?:能|可以|请)?再?(?:具体|详细|仔细)(?:一点|点|些)?(?:说说|说一下|讲讲|说明|解释)?(?:一下)?"
    "|能?再?(?:解释|说明|总结)(?:一下|下)|能?(?:举个?|有)(?:例子|例)|比如|例如"
    "|为什么(?:这样|这么规定|要这样|不行|不能|不可以|可以)?|为啥|为何|凭什么|怎么会|怎么说|真的|确定|是吗|是?什么意思"
    "|(?:如果|要是)?(?:还是|还|仍然|都)?(?:不行|没用|不可以|没反应|不好使)(?:的话|了)?(?:怎么办|咋办|咋整)?"
    "|怎么办|怎么做|怎么弄|咋办|咋整"
    ")" + _PARTICLES
)
"""Questions that ask for more of the same."""
_OF_WHAT = "工资|薪水|补贴|补助|押金|发票|罚款|奖励|赔偿|补偿|利息|手续费|运费|税"
LACKING: Final = re.compile(
    "(?:还|也|都|要|需要|会|能|可以|是否|有没有)*"
    f"(?:有|给|收|扣|发|交|罚|含|带|付|开|算)?(?:{_OF_WHAT})(?:吗|么|不|没)"
    f"|(?:{_OF_WHAT}|密码|账号|税率)(?:是|要|有|收|交)*(?:多少|什么|几.{{0,2}}|怎么算)钱?"
)
"""Questions about money or a password that do not say of what."""
_HOLDS = "有|要|可以|能|行|是|算|会|需要|得|适用|包括|享受|能用|能享受|一样|支持|这样|如此"
TOO: Final = re.compile(
    f"(?P<who>.+?)(?:也都?(?:{_HOLDS})+(?:这样|一样|的|吗|么|嘛|不|吧)+"
    "|(?:可以|行|一样|适用|也行|能行|算)(?:吗|么|嘛|不|不行|吧))"
)
"""`外区读者也要吗`: something else, and nothing that says what of it."""
LEADS: Final = frozenset("如果 要是 假如 假设 万一 若是 若 倘若 换成 换作 换 对于 对 关于 至于 是 在 像 如 从".split())
"""Words before the part that is new: `换成上海`."""
TAILS: Final = ("的时候", "的话", "的", "，", ",", " ")
"""What may follow the part that is new."""
_NUMERALS = "零〇一二三四五六七八九十百千万两半"
UNIT: Final = re.compile(rf"[a-zA-Z]+[-_]?\d[a-zA-Z0-9_-]*|[a-zA-Z]+|[\d.]+|[{_NUMERALS}]+|\S")
NUMBER: Final = re.compile(rf"[\d.]+|[{_NUMERALS}]+")
CODE: Final = re.compile(r"([a-zA-Z]+)[-_]?\d[a-zA-Z0-9_-]*")
LETTER: Final = re.compile(r"[a-zA-Z]")
DEFINITION: Final = re.compile(r"什么(?:是|叫).|.*[“”「」《》\"]")
"""Questions about a word: it may be one that jieba does not know."""
ENDS: Final = "？?！!。.…~～ \t\r\n，,"
LONGEST_BARE: Final = 8
ENOUGH: Final = 5
"""So many telling words are enough for a search, whatever a pronoun means."""


class Word(NamedTuple):
    """A word, in lower case and Simplified, with jieba's part of speech and its place."""

    text: str
    tag: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """Return the words of a text, with their places in it."""
    words, place = [], 0
    for word, tag in tagged(text):
        words.append(Word(word, tag, place, place + len(word)))
        place += len(word)
    return words
