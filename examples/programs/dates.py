from datetime import date, datetime, timedelta, timezone

leap = date(2024, 2, 29)
print(leap.strftime("%A"), leap.isocalendar()[1], leap.timetuple().tm_yday)
print(leap + timedelta(days=365))
print((leap - date(2000, 1, 1)).days, "days into the century")
print(datetime.fromtimestamp(1_700_000_000, timezone.utc).isoformat())
print(datetime.fromisoformat("2023-11-14T23:13:20+01:00").timestamp())
